"""One small recipe per shipped checkpoint."""
import importlib

_WHERE = {
    "text-ar-1": "text_ar:TextAR", "text-ar-1k-1": "text_ar:TextAR1k", "text-mdm-1": "text_mdm:TextMDM",
    "text-ar-retrieval-1": "text_retrieval:TextRetrieval", "algo-arithmetic-1": "arithmetic:Arithmetic",
    "algo-arithmetic-2": "arithmetic:Routes",
    "scene-vq-1": "scene_vq:SceneVQ", "scene-mgm-1": "scene_mgm:SceneMGM",
    "scene-enat-1": "scene_enat:SceneENAT",
    "text-electra-1": "text_electra:TextElectra", "text-mlm-1": "text_electra:TextMLM",
    "text-joint-1": "text_joint:TextJoint",
    "scene-vq-2": "scene_light:SceneLight", "scene-ar-1": "scene_ar:SceneAR",
    "scene-vlm-1": "scene_vlm:SceneVLM",
    "scene-mvq-1": "scene_var:SceneMVQ", "scene-var-1": "scene_var:SceneVAR",
    "scene-ar-draft-1": "scene_draft:SceneDraft",
    "text-mtp-1": "mtp:TextMTP", "algo-mtp-1": "mtp:AlgoMTP",
    "photo-vit-1": "photo_vit:PhotoViT", "photo-illama-1": "photo_illama:PhotoIllama",
    "photo-illama-first-1": "photo_illama:PhotoIllamaFirst",
    "photo-sparsifiner-predictor-1": "photo_sparsifiner:PhotoPredictor",
    "photo-sparsifiner-1": "photo_sparsifiner:PhotoSparsifiner",
    "photo-sparsifiner-dense-1": "photo_sparsifiner:PhotoSparsifinerDense",
    "photo-spark-1": "photo_spark:PhotoSpark", "photo-spark-zero-1": "photo_spark:PhotoSparkZero",
    "photo-mae-1": "photo_mae:PhotoMAE", "photo-hpm-1": "photo_hpm:PhotoHPM",
}
NAMES = tuple(_WHERE)


def recipe(name: str) -> type:
    """The recipe class of a checkpoint's name."""
    if name not in _WHERE:
        raise ValueError(f'no recipe "{name}": choose one of {", ".join(NAMES)}')
    module, kind = _WHERE[name].split(":")
    return getattr(importlib.import_module(f"training.recipes.{module}"), kind)
