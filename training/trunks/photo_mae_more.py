"""photo-mae-2-more: photo-mae-2 with as many more steps of plain MAE as every arm gets that starts from it."""
from training.pretraining import PretrainingArm
from training.trunks.photo_mae import PhotoMAE


class PhotoMAEMore(PretrainingArm, PhotoMAE):
    """The control of all arms that learn from hidden patches. They, too, are trained with --seed 2."""

    name, start = "photo-mae-2-more", "photo-mae-2"
    warm_lr = 0.5
    budget_fraction = "350 steps more than photo-mae-2, as its arms"
