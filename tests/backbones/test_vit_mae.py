"""Positions of a ViTMAE that is built from a config, which the library leaves at zero."""

from tests.mask_nets import network


def test_positions_are_set_and_survive_saving(tmp_path):
    network().save_pretrained(tmp_path)
    again = type(network()).from_pretrained(tmp_path)
    for table in (again.vit.embeddings.position_embeddings, again.decoder.decoder_pos_embed,
                  again.loss_predictor.decoder_pos_embed):
        assert table[0, 1:].unique(dim=0).shape[0] == 64
    assert again.loss_predictor.decoder_pred.out_features == 1
