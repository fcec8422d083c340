"""photo-mto-1: photo-mim-1 with masked-token optimisation (arXiv 2404.08330), on the same batches, masks and steps."""
from models.backbones.simmim import heterogeneity, hiding
from models.papers.mto import losses
from models.papers.mto.network import MTOForPreTraining
from training.trunks.photo_mim import PhotoMIM

PAIRED = 8  # pictures of a batch on which L_r is counted


class PhotoMTO(PhotoMIM):
    name, control, network = "photo-mto-1", PhotoMIM.name, MTOForPreTraining
    new = (*PhotoMIM.new, "rho")
    architecture = "MTOForPreTraining: photo-mim-1's network, r per head of the first two blocks, three more losses"
    weak_at = "The losses are this project's reading of an abstract; 500 steps from an encoder that had none of them."

    def rate(self, name):
        return 20.0 if name == "rho" else super().rate(name)  # r begins at 0.98, where a sigmoid hardly moves

    def loss(self, model, batch, progress):
        mask = hiding(batch["noise"], self.hidden)
        made = model(batch["pixels"], mask)
        painted = made.error(model.patchify(batch["pixels"]), mask).mean()
        terms = {"spa": losses.spared(made.weights[: model.early], mask),
                 "e": losses.singular(model.mask_token[0, 0], made.z, mask),
                 "r": losses.ordered([heterogeneity(x[:PAIRED], mask[:PAIRED]) for x in made.states[model.early :]])}
        total = painted + losses.SPARED * terms["spa"] + losses.SINGULAR * terms["e"] + losses.ORDERED * terms["r"]
        return total, {"l1": painted.detach(), **{name: one.detach() for name, one in terms.items()}}
