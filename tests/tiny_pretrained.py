"""Tiny networks of real classes of transformers, saved as a user's are."""

import torch

ONE_LAYER = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 8}
TWO_LABELS = {"id2label": {0: "calm", 1: "loud"}, "label2id": {"calm": 0, "loud": 1}}


def save_ast(folder, seed=0, **labels):
    """Save a network of sound that reads filter banks."""
    from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

    config = ASTConfig(
        **ONE_LAYER, intermediate_size=16, max_length=64, num_mel_bins=32, **(labels or TWO_LABELS)
    )
    extractor = ASTFeatureExtractor(num_mel_bins=32, max_length=64)
    return _save(folder, seed, ASTForAudioClassification, config, extractor)


def save_wav2vec2(folder, seed=0):
    """Save a network of sound that reads waveforms."""
    from transformers import (
        Wav2Vec2Config,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2ForSequenceClassification,
    )

    config = Wav2Vec2Config(
        **ONE_LAYER,
        **TWO_LABELS,
        intermediate_size=16,
        conv_dim=(8, 8),
        conv_kernel=(10, 3),
        conv_stride=(5, 2),
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        classifier_proj_size=8,
    )
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True)
    return _save(folder, seed, Wav2Vec2ForSequenceClassification, config, extractor)


def save_vit(folder, seed=0, head=True, **labels):
    """Save a network of pictures; without a head it is a backbone alone."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor, ViTModel

    config = ViTConfig(
        **ONE_LAYER, intermediate_size=16, image_size=32, patch_size=8, **(labels or TWO_LABELS)
    )
    processor = ViTImageProcessor(size={"height": 32, "width": 32})
    return _save(folder, seed, ViTForImageClassification if head else ViTModel, config, processor)


def save_convnext(folder, seed=0, edge=32):
    """Save a convolutional network of pictures, whose processor crops."""
    from transformers import ConvNextConfig, ConvNextForImageClassification, ConvNextImageProcessor

    config = ConvNextConfig(hidden_sizes=[4, 8], depths=[1, 1], num_stages=2, **TWO_LABELS)
    processor = ConvNextImageProcessor(size={"shortest_edge": edge})
    return _save(folder, seed, ConvNextForImageClassification, config, processor)


def save_videomae(folder, seed=0, **labels):
    """Save a network of clips of four frames."""
    from transformers import VideoMAEConfig, VideoMAEForVideoClassification, VideoMAEImageProcessor

    config = VideoMAEConfig(
        **ONE_LAYER,
        intermediate_size=16,
        image_size=32,
        patch_size=8,
        num_frames=4,
        **(labels or TWO_LABELS),
    )
    processor = VideoMAEImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    return _save(folder, seed, VideoMAEForVideoClassification, config, processor)


def _save(folder, seed, network_class, config, processor):
    torch.manual_seed(seed)
    network = network_class(config).eval()
    for one in network.parameters():  # heads begin at zero or close to it
        if one.dim() > 1:
            torch.nn.init.normal_(one, std=0.3)
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    return network
