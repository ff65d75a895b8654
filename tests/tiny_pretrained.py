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


def save_segformer(folder, seed=0, **labels):
    """Save a segmenter that answers a map of logits."""
    from transformers import (
        SegformerConfig,
        SegformerForSemanticSegmentation,
        SegformerImageProcessor,
    )

    config = SegformerConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[8, 8],
        patch_sizes=[7, 3],
        strides=[4, 2],
        num_attention_heads=[1, 1],
        mlp_ratios=[1, 1],
        decoder_hidden_size=8,
        **(labels or TWO_LABELS),
    )
    processor = SegformerImageProcessor(size={"height": 32, "width": 32})
    return _save(folder, seed, SegformerForSemanticSegmentation, config, processor)


def save_mask2former(folder, seed=0, **labels):
    """Save a segmenter that answers by queries."""
    from transformers import (
        Mask2FormerConfig,
        Mask2FormerForUniversalSegmentation,
        Mask2FormerImageProcessor,
        SwinConfig,
    )

    backbone = SwinConfig(
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 1, 1],
        window_size=2,
        image_size=64,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = Mask2FormerConfig(
        backbone_config=backbone,
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        num_attention_heads=1,
        dim_feedforward=8,
        encoder_feedforward_dim=8,
        encoder_layers=1,
        decoder_layers=2,
        num_queries=3,
        **(labels or TWO_LABELS),
    )
    processor = Mask2FormerImageProcessor(size={"shortest_edge": 64, "longest_edge": 128})
    return _save(folder, seed, Mask2FormerForUniversalSegmentation, config, processor)


def save_clip(folder, seed=0):
    """Save a network of pictures and texts, with a tokenizer of letters."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

    layer = {**ONE_LAYER, "intermediate_size": 16}
    vocabulary = _letters("<|startoftext|>", "<|endoftext|>", end="</w>")
    special = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    text = {**layer, **special, "vocab_size": len(vocabulary), "max_position_embeddings": 77}
    vision = {**layer, "image_size": 32, "patch_size": 8}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=6)
    processor = CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    return _save(folder, seed, CLIPModel, config, processor)


def save_clap(folder, seed=0):
    """Save a network of sound and texts, with a tokenizer of bytes."""
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, RobertaTokenizer

    vocabulary = _letters("<s>", "<pad>", "</s>", "<unk>", "<mask>", end="")
    text = {
        **ONE_LAYER,
        "intermediate_size": 16,
        "vocab_size": len(vocabulary),
        "max_position_embeddings": 80,
        "projection_dim": 6,
    }
    audio = {
        "spec_size": 64,
        "num_mel_bins": 16,
        "window_size": 2,
        "patch_embeds_hidden_size": 8,
        "hidden_size": 16,
        "depths": [1, 1],
        "num_attention_heads": [1, 1],
        "patch_size": 4,
        "patch_stride": [4, 4],
        "projection_dim": 6,
    }
    config = ClapConfig(text_config=text, audio_config=audio, projection_dim=6)
    extractor = ClapFeatureExtractor(
        feature_size=16,
        sampling_rate=8000,
        hop_length=160,
        max_length_s=1,
        fft_window_size=512,
        truncation="rand_trunc",
    )
    RobertaTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    return _save(folder, seed, ClapModel, config, extractor)


WORDS = ["a", "of", "drama", "comedy", "western", "number", "nobody", "knows", "how", "it", "ends"]
WORDS += [".", *"1234567890"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def save_bert(folder, seed=0, head=True, words=WORDS, kind="bert", **labels):
    """Save a network of text with a tokenizer of some words; without a head a backbone alone."""
    from transformers import (
        AutoModel,
        AutoModelForSequenceClassification,
        BertConfig,
        BertTokenizer,
        DistilBertConfig,
        RobertaConfig,
    )

    names = [*SPECIAL, *words, *(f"##{one}" for one in words)]
    vocabulary = {name: number for number, name in enumerate(names)}
    sizes = {"vocab_size": len(vocabulary), "max_position_embeddings": 40, "pad_token_id": 0}
    if kind == "distilbert":
        config = DistilBertConfig(
            **sizes, dim=8, n_layers=1, n_heads=2, hidden_dim=16, **(labels or TWO_LABELS)
        )
    else:
        known = {"bert": BertConfig, "roberta": RobertaConfig}[kind]
        config = known(**ONE_LAYER, **sizes, intermediate_size=16, **(labels or TWO_LABELS))
    torch.manual_seed(seed)
    network = (AutoModelForSequenceClassification if head else AutoModel).from_config(config)
    for name, one in network.named_parameters():
        if one.dim() > 1 and "embeddings" not in name:
            torch.nn.init.normal_(one, std=0.3)
    network.eval().save_pretrained(folder)
    BertTokenizer(vocab=vocabulary).save_pretrained(folder)
    return network


def _letters(*special, end):
    """Return a vocabulary of letters, alone and at the end of a word."""
    letters = [*"abcdefghijklmnopqrstuvwxyzTĠ.,-"]
    names = [*special, *letters, *([f"{one}{end}" for one in letters] if end else [])]
    return {name: number for number, name in enumerate(names)}
