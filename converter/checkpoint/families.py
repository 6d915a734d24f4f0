"""The table of model families, which every command asks: one row a model type. `family.py` explains the columns.

`test_families_table.py` holds the rows to transformers' own classes, and docs/families.md is made from them.
"""

from __future__ import annotations

from ropext.converter.errors import RopextError
from ropext.converter.text import did_you_mean

from .family import Family, Sizes

__all__ = ["FAMILIES", "family_of", "supported"]

F, S = Family, Sizes

_ANGLES = "its rotary angles are a table that ends at the trained length"
_DRAFT = "it drafts tokens for another model and reads that model's keys"
_INDEXER = "an indexer with rotary positions of its own chooses which keys each query sees (sparse attention)"
_NO_ROTARY = "it has no rotary positions, so there is nothing that a method could choose"
_NOPE = "its layers with full attention have no rotary positions, and the others see a sliding window only"
_OWN_CODE = "its attention is code of its own, which asks transformers for no attention function"
_REMOTE = "its model class is not part of transformers"

_LLAMA3 = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0,
           "original_max_position_embeddings": 8192}  # fmt: skip
_APERTUS = {**_LLAMA3, "rope_theta": 12e6, "factor": 8.0}
_CWM = {**_LLAMA3, "rope_theta": 1e6, "factor": 16.0}
_YARN = {"rope_type": "yarn", "beta_fast": 32.0, "beta_slow": 1.0}
_GPT_OSS = {**_YARN, "factor": 32.0, "truncate": False, "original_max_position_embeddings": 4096}
_MINISTRAL3 = {**_YARN, "rope_theta": 1e6, "factor": 16.0, "original_max_position_embeddings": 16384, "mscale": 1.0,
               "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1}  # fmt: skip
_GEMMA4 = {"full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1e6}}
_LFM3 = {"full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.5, "rope_theta": 1e6}}
_LAGUNA = {"full_attention": {"rope_type": "default", "partial_rotary_factor": 0.5, "rope_theta": 500_000.0}}
_MIMO = {"full_attention": {"rope_type": "default", "partial_rotary_factor": 0.334, "rope_theta": 5e6}}

_PLAIN = ("llama", "mistral", "qwen2", "qwen3")
"""Text models that composites of many kinds have."""

_WITHOUT_ROTARY = (
    *("bart", "bert", "bloom", "falcon_mamba", "gpt2", "gpt_bigcode", "gpt_neo", "inkling2_loop_text"),
    *("inkling2_text", "inkling_text", "jamba", "kimi_linear", "mamba", "mamba2", "mpt", "nemotron_h", "openai-gpt"),
    *("opt", "rwkv", "xlnet", "xlstm", "zamba"),
)
"""Well-known models in which nothing is turned, or only within layers that are not attention."""

# fmt: off
_ROWS = (
    # Text models
    F("afmoe", refused=_NOPE),
    F("apertus", "Apertus", S(4096, 32, 32, 0, 65536), heads="t", theta=12e6, rope=_APERTUS, since="4.57"),
    F("apertus1p5_text", "Apertus1p5Text", S(4096, 32, 32, 0, 65536), theta=12e6, rope=_APERTUS, since="5.24",
      module="apertus1p5.modeling_apertus1p5"),
    F("arcee", "Arcee", S(2560, 32, 32, 0, 4096), heads="stq"),
    F("aria_text", "AriaText", S(4096, 32, 32, 0, 2048), module="aria.modeling_aria"),
    F("axk1", "AXK1", S(7168, 61, 64, 64, 32768), heads="st", latent=(128, 64), since="5.23"),
    F("axk2", refused=_INDEXER),
    F("bailing_hybrid", "BailingHybrid", S(2560, 42, 32, 32, 262144), latent=(128, 64), theta=6e6, since="5.23",
      layers="types", pattern="lllllf"),
    F("bamba", "Bamba", S(4096, 32, 32, 8, 262144), partial=0.5, partial_keys=(), layers="indices", pattern="l",
      layers_key="attn_layer_indices"),
    F("beam", refused=_NOPE),
    F("bitnet", "BitNet", S(2560, 30, 20, 5, 2048), theta=500_000),
    F("blt", refused="it reads bytes in patches, through three models whose positions count different things"),
    F("codegen", refused=_ANGLES),
    F("cohere", "Cohere", S(8192, 40, 64, 0, 8192), theta=None, layout="neighbours"),
    F("cohere2", refused=_NOPE),
    F("cohere2_moe", refused="of its layers with full attention only the first few have rotary positions"),
    F("cohere_compass_text", "CohereCompass", S(8192, 40, 64, 0, 8192), theta=None, per_type=True, multi_axis=True,
      layers="types", window=4096, since="5.24", module="cohere_compass.modeling_cohere_compass"),
    F("cwm", "Cwm", S(6144, 64, 48, 8, 131072), head_dim=128, theta=1e6, rope=_CWM, since="5.0", layers="types",
      pattern="fsss"),
    F("dbrx", refused="its configuration keeps RoPE's base in attn_config, where transformers 5 does not read it"),
    F("deepseek_v2", "DeepseekV2", S(4096, 32, 32, 0, 2048), heads="s", latent=(128, 64), layout="neighbours"),
    F("deepseek_v3", "DeepseekV3", S(7168, 61, 128, 128, 4096), heads="st", latent=(128, 64)),
    F("deepseek_v32", refused=_INDEXER),
    F("deepseek_v4", refused="its layers attend to compressed keys, each of many tokens, beside a sliding window"),
    F("diffllama", "DiffLlama", S(2048, 16, 32, 0, 2048), heads="stq", since="5.23"),
    F("doge", refused="its attention masks tokens by their content, for each head in another way"),
    F("dory", refused="it scales each dimension of its queries after the rotation, and its layers are run repeatedly"),
    F("dots1", "Dots1", S(4608, 62, 32, 32, 2048), layers="tail", window=4096, window_layers=62),
    F("dots3_note_text", refused=_INDEXER),
    F("ernie4_5", "Ernie4_5", S(1024, 18, 16, 2, 131072), head_dim=128, theta=500_000, layout="neighbours"),
    F("ernie4_5_moe", "Ernie4_5_Moe", S(2560, 28, 20, 4, 131072), theta=500_000, layout="neighbours"),
    F("exaone", "Llama", S(4096, 32, 32, 8, 4096), alias="Exaone", heads="stq", theta=500_000, since="5.24",
      module="llama.modeling_llama"),
    F("exaone4", "Exaone4", S(4096, 32, 32, 32, 2048), heads="stq", layers="types", pattern="sssf",
      nope="sliding_window",
      layers_key="sliding_window_pattern", window=4096),
    F("exaone_moe", "ExaoneMoe", S(4096, 32, 32, 32, 2048), layers="types", pattern="sssf", nope="sliding_window",
      layers_key="sliding_window_pattern", window=4096, since="5.23"),
    F("falcon", refused=_OWN_CODE),
    F("falcon_h1", "FalconH1", S(4096, 32, 32, 8, 8192), theta=None),
    F("flex_olmo", "FlexOlmo", S(4096, 32, 32, 0, 4096), theta=500_000, since="4.57"),
    F("flint", refused=_NOPE),
    F("gemma", "Gemma", S(3072, 28, 16, 16, 8192), heads="st", head_dim=256),
    F("gemma2", "Gemma2", S(2304, 26, 8, 4, 8192), heads="st", head_dim=256, layers="types", pattern="sf", window=4096,
      guard="hidden_activation"),
    F("gemma3_text", "Gemma3", S(2304, 26, 8, 4, 131072), heads="s", head_dim=256, theta=1e6, per_type="legacy",
      layers="types",
      pattern="sssssf", layers_key="sliding_window_pattern", window=4096, guard="hidden_activation",
      module="gemma3.modeling_gemma3"),
    F("gemma3n_text", "Gemma3n", S(2048, 35, 8, 2, 32768), head_dim=256, theta=1e6, per_type="legacy", layers="types",
      pattern="ssssf", window=512, guard="hidden_activation", module="gemma3n.modeling_gemma3n"),
    F("gemma4_text", "Gemma4", S(2304, 30, 8, 4, 131072), head_key="global_head_dim", head_dim=512, rope=_GEMMA4,
      per_type=True, layers="types", pattern="sssssf", window=512, guard="hidden_activation", since="5.23",
      module="gemma4.modeling_gemma4"),
    F("gemma4_unified_text", "Gemma4Unified", S(2304, 30, 8, 4, 262144), head_key="global_head_dim", head_dim=512,
      rope=_GEMMA4, per_type=True, layers="types", pattern="sssssf", window=1024, guard="hidden_activation",
      since="5.23", module="gemma4_unified.modeling_gemma4_unified"),
    F("glm", "Glm", S(4096, 40, 32, 2, 131072), heads="st", head_dim=128, partial=0.5, layout="neighbours"),
    F("glm4", "Glm4", S(4096, 40, 32, 2, 131072), heads="st", head_dim=128, partial=0.5, layout="neighbours"),
    F("glm4_moe", "Glm4Moe", S(4096, 46, 96, 8, 131072), partial=0.5),
    F("glm4_moe_lite", "Glm4MoeLite", S(2048, 47, 20, 20, 202752), latent=(192, 64), head_dim=64, since="5.0"),
    F("glm_moe_dsa", refused=_INDEXER),
    F("gpt_neox", "GPTNeoX", S(6144, 44, 64, 0, 2048), heads="stq", theta_key="rotary_emb_base",
      partial_keys=("rotary_pct",),
      partial=0.25),
    F("gpt_neox_japanese", refused=_OWN_CODE),
    F("gpt_oss", "GptOss", S(2880, 36, 64, 8, 131072), heads="st", head_dim=64, theta=150_000, rope=_GPT_OSS,
      layers="types",
      pattern="sf", window=128, guard=""),
    F("gptj", refused=_ANGLES),
    F("granite", "Granite", S(4096, 32, 32, 0, 2048)),
    F("granite_swa", "GraniteSWA", S(2560, 24, 20, 4, 8192), layers="types", pattern="fsss", window=128,
      nope="layer_rope_theta", since="5.23"),
    F("granitemoe", "GraniteMoe", S(4096, 32, 32, 0, 2048)),
    F("granitemoe_swa", "GraniteMoeSWA", S(4096, 32, 32, 0, 2048), layers="types", pattern="fsss", window=128,
      nope="layer_rope_theta", since="5.23"),
    F("granitemoehybrid", "GraniteMoeHybrid", S(4096, 32, 32, 0, 2048), layers="types", pattern="l",
      nope="position_embedding_type"),
    F("granitemoeshared", "GraniteMoeShared", S(4096, 32, 32, 0, 2048)),
    F("helium", "Helium", S(2560, 24, 20, 20, 4096), heads="st", head_dim=128, theta=100_000, layout="neighbours"),
    F("hrm_text", refused="its layers are run repeatedly, with cached keys for each time"),
    F("hunyuan_v1_dense", "HunYuanDenseV1", S(4096, 32, 32, 0, 2048), heads="s", since="4.57",
      norms_after=("query_layernorm", "key_layernorm")),
    F("hunyuan_v1_moe", "HunYuanMoEV1", S(4096, 32, 32, 0, 2048), heads="s", since="4.57",
      norms_after=("query_layernorm", "key_layernorm")),
    F("hy_v3", "HYV3", S(4096, 80, 64, 8, 131072), head_dim=128, theta=11_158_840, since="5.23"),
    F("hy_v4", refused=_INDEXER),
    F("hyperclovax", "HyperCLOVAX", S(4096, 32, 32, 0, 2048), since="5.23"),
    F("internlm3", "Llama", S(4096, 48, 32, 2, 32768), alias="InternLM3", heads="stq", head_dim=128, since="5.23",
      module="llama.modeling_llama"),
    F("iquestcoder", "Llama", S(5120, 80, 40, 8, 131072), alias="IQuestCoder", heads="stq", head_dim=128,
      since="5.23", module="llama.modeling_llama"),
    F("jais2", "Jais2", S(3328, 32, 26, 0, 8192), since="5.0"),
    F("jetmoe", "JetMoe", S(2048, 12, 32, 16, 4096), heads="s", head_key="kv_channels", head_dim=128, since="5.0",
      guard="activation_function"),
    F("kolibri1", refused=_NOPE),
    F("laguna", "Laguna", S(2048, 40, 48, 8, 131072), head_dim=128, partial=1.0, rope=_LAGUNA, per_type=True,
      layers="types", window=512, since="5.23"),
    F("lara_mini", refused=_NOPE),
    F("lfm2", "Lfm2", S(2560, 32, 32, 8, 128000), theta=1e6, layers="indices", layers_key="full_attn_idxs",
      pattern="fc", guard=""),
    F("lfm2_moe", "Lfm2Moe", S(2048, 32, 32, 8, 128000), theta=1e6, layers="types", pattern="c", guard="", since="5.0"),
    F("lfm3", "Lfm3", S(2048, 24, 16, 4, 128000), head_dim=128, theta=1e6, rope=_LFM3, per_type=True, layers="types",
      pattern="c|cfcs", window=256, guard="", since="5.23"),
    F("llama", "Llama", S(4096, 32, 32, 0, 2048), heads="stq"),
    F("llama4_text", refused="its layers with full attention have no rotary positions, and the others read chunks"),
    F("longcat_flash", "LongcatFlash", S(6144, 28, 64, 0, 131072), latent=(128, 64), head_dim=64, theta=1e7,
      layers="double", since="4.57"),
    F("mellum", "Mellum", S(2304, 28, 32, 4, 131072), head_dim=128, theta=500_000, partial=1.0, per_type=True,
      layers="types", window=1024, since="5.23"),
    F("mimo_v2_flash", "MiMoV2Flash", S(4096, 48, 64, 4, 131072), head_dim=192, partial=0.334, rope=_MIMO,
      per_type=True, layers="types", pattern="fssssf|sssssf", window=129, since="5.23"),
    F("minicpm3", "MiniCPM3", S(2560, 62, 40, 40, 32768), heads="s", latent=(64, 32), since="5.23"),
    F("minimax", "MiniMax", S(4096, 32, 32, 8, 131072), heads="stq", theta=1e6, layers="window", pattern="fl"),
    F("minimax_m2", "MiniMaxM2", S(3072, 62, 48, 8, 196608), head_dim=128, theta=5e6, partial=1.0, since="5.0",
      partial_keys=("partial_rotary_factor", "rotary_dim")),
    F("minimax_m3_vl_text", refused=_INDEXER),
    F("ministral", "Ministral", S(4096, 32, 32, 8, 131072), heads="stq", layers="types", pattern="w", window=4096,
      since="4.57"),
    F("ministral3", "Ministral3", S(4096, 34, 32, 8, 262144), heads="stq", head_dim=128, theta=None, rope=_MINISTRAL3,
      layers="window", since="5.0"),
    F("mistral", "Mistral", S(4096, 32, 32, 8, 131072), heads="stq", layers="window", window=4096),
    F("mistral4", refused="it scales its queries by position within a latent attention that was not tried"),
    F("mixtral", "Mixtral", S(4096, 32, 32, 8, 131072), heads="stq", theta=1e6, layers="window"),
    F("modernbert-decoder", refused="its language model head is called decoder, which hides its layers"),
    F("moshi", refused="its checkpoints are speech models of several streams, which were not tried"),
    F("nanochat", "NanoChat", S(768, 12, 6, 0, 2048), sign=-1, since="5.0"),
    F("nemotron", "Nemotron", S(6144, 32, 48, 0, 4096), heads="stq", partial=0.5, since="5.23"),
    F("olmo", "Olmo", S(4096, 32, 32, 0, 2048), heads="s"),
    F("olmo2", "Olmo2", S(4096, 32, 32, 0, 2048), heads="s"),
    F("olmo3", "Olmo3", S(4096, 32, 32, 0, 2048), heads="s", theta=None, per_type="legacy", layers="types",
      pattern="sssf",
      window=4096, since="4.57"),
    F("olmo_hybrid", "OlmoHybrid", S(3840, 32, 30, 0, 65536), theta=None, layers="types", pattern="lllf", since="5.23"),
    F("olmoe", "Olmoe", S(2048, 16, 16, 0, 4096), since="5.0"),
    F("persimmon", "Persimmon", S(4096, 36, 64, 0, 16384), heads="st", theta=None, partial=0.5),
    F("phi", "Phi", S(2048, 24, 32, 0, 2048), heads="st", partial=0.5),
    F("phi3", "Phi3", S(3072, 32, 32, 0, 4096), heads="st", partial=1.0, layers="window"),
    F("phi4_multimodal", "Phi4Multimodal", S(3072, 32, 32, 8, 131072), partial=1.0, layers="window", since="5.23"),
    F("phimoe", "Phimoe", S(4096, 32, 32, 8, 131072), heads="s", theta=1e6, layers="window", since="5.0"),
    F("qwen2", "Qwen2", S(4096, 32, 32, 32, 32768), heads="stq", layers="tail", window=4096, window_switch=True),
    F("qwen2_moe", "Qwen2Moe", S(2048, 24, 16, 16, 32768), heads="stq", layers="alternate", window=4096,
      window_switch=True,
      since="5.0"),
    F("qwen3", "Qwen3", S(4096, 32, 32, 32, 32768), heads="stq", head_dim=128, layers="tail", window=4096,
      window_switch=True),
    F("qwen3_5_text", "Qwen3_5", S(4096, 32, 16, 4, 32768), heads="st", head_dim=256, partial=0.25, multi_axis=True,
      sections=(11, 11, 10), interleaved=True,
      layers="types", pattern="lllf", layers_key="full_attention_interval", since="5.23",
      module="qwen3_5.modeling_qwen3_5"),
    F("qwen3_5_moe_text", "Qwen3_5Moe", S(2048, 40, 16, 2, 32768), head_dim=256, partial=0.25, multi_axis=True,
      sections=(11, 11, 10), interleaved=True,
      layers="types", pattern="lllf", layers_key="full_attention_interval", since="5.23",
      module="qwen3_5_moe.modeling_qwen3_5_moe"),
    F("qwen3_moe", "Qwen3Moe", S(2048, 24, 32, 4, 32768), heads="stq", layers="window", window=4096,
      window_switch=True),
    F("qwen3_next", "Qwen3Next", S(2048, 48, 16, 2, 32768), heads="stq", head_dim=256, partial=0.25, layers="types",
      pattern="lllf", layers_key="full_attention_interval", since="4.57"),
    F("qwen4_exp_text", refused=_INDEXER),
    F("recurrent_gemma", refused="its attention layers see a sliding window only, the others are recurrent"),
    F("roformer", refused=_OWN_CODE),
    F("sarvam_mla", "DeepseekV3", S(4096, 32, 64, 0, 4096), alias="SarvamMLA", heads="st", latent=(128, 64),
      since="5.24",
      module="deepseek_v3.modeling_deepseek_v3"),
    F("sarvam_moe", "Glm4Moe", S(4096, 19, 64, 4, 131072), alias="SarvamMoE", head_dim=64, theta=8e6, partial=1.0,
      since="5.24",
      module="glm4_moe.modeling_glm4_moe"),
    F("seed_oss", "SeedOss", S(4096, 64, 80, 8, 524288), heads="stq", head_dim=128, since="4.57"),
    F("smollm3", "SmolLM3", S(2048, 36, 16, 4, 32768), heads="stq", theta=2e6, layers="types", nope="no_rope_layers",
      window_switch=True),
    F("solar_open", "SolarOpen", S(4096, 48, 64, 8, 131072), head_dim=128, theta=1e6, partial=1.0, since="5.0"),
    F("stablelm", "StableLm", S(2560, 32, 32, 32, 4096), heads="st", partial=0.25, since="5.0"),
    F("starcoder2", "Starcoder2", S(3072, 30, 24, 2, 4096), heads="st", layers="window"),
    F("vaultgemma", "VaultGemma", S(2304, 26, 8, 4, 8192), head_dim=256, layers="types", pattern="sf", window=4096,
      guard="hidden_activation", since="4.57"),
    F("youtu", "Youtu", S(2048, 32, 16, 16, 131072), latent=(128, 64), since="5.23"),
    F("zamba2", refused="its attention layers share weights and read the embeddings beside the hidden states"),
    F("zaya", refused="it mixes neighbouring tokens into queries and keys, and names its layer types its own way"),
    # Text models that are found inside others only
    F("qwen2_vl_text", "Qwen2VLText", S(8192, 80, 64, 8, 32768), theta=1e6, multi_axis=True, sections=(16, 24, 24),
      layers="tail",
      window=4096, window_switch=True, inside="qwen2_vl"),
    F("qwen2_5_vl_text", "Qwen2_5_VLText", S(8192, 80, 64, 8, 32768), theta=1e6, multi_axis=True, sections=(16, 24,
      24), layers="tail",
      window=4096, window_switch=True, inside="qwen2_5_vl"),
    F("qwen3_vl_text", "Qwen3VLText", S(4096, 32, 32, 32, 128000), head_dim=128, theta=None, multi_axis=True,
      sections=(24, 20, 20), interleaved=True,
      since="4.57", inside="qwen3_vl"),
    F("qwen3_vl_moe_text", "Qwen3VLMoeText", S(2048, 24, 16, 16, 128000), theta=None, multi_axis=True, sections=(24,
      20, 20), interleaved=True, since="4.57",
      inside="qwen3_vl_moe"),
    # Models with a text model inside
    F("dots3_note", refused=_INDEXER),
    F("emu3", refused="it writes images as tokens too, and was not tried"),
    F("gemma3", "Gemma3", text=("gemma3_text",)),
    F("gemma3n", refused="it hears and sees through encoders that were not tried; gemma3n_text alone converts"),
    F("gemma4", "Gemma4", text=("gemma4_text",), since="5.23"),
    F("gemma4_assistant", refused=_DRAFT),
    F("gemma4_unified", refused="it was not tried; gemma4_unified_text alone converts"),
    F("gemma4_unified_assistant", refused=_DRAFT),
    F("idefics3", "Idefics3", text=_PLAIN),
    F("internvl", "InternVL", text=(*_PLAIN, "qwen3_moe", "gpt_oss")),
    F("kimi_k2", refused=_REMOTE),
    F("llama4", refused="its layers with full attention have no rotary positions, and the others read chunks"),
    F("llava", "Llava", text=_PLAIN),
    F("llava_next", "LlavaNext", text=_PLAIN),
    F("llava_onevision", "LlavaOnevision", text=_PLAIN),
    F("minimax_m3_vl", refused=_INDEXER),
    F("mistral3", "Mistral3", text=("mistral", "ministral3")),
    F("mllama", refused="its layers attend to images by layers of their own among those of the text"),
    F("qwen2_vl", "Qwen2VL", text=("qwen2_vl_text",)),
    F("qwen2_5_vl", "Qwen2_5_VL", text=("qwen2_5_vl_text",)),
    F("qwen3_5", "Qwen3_5", text=("qwen3_5_text",), since="5.23"),
    F("qwen3_5_moe", "Qwen3_5Moe", text=("qwen3_5_moe_text",), since="5.23"),
    F("qwen3_vl", "Qwen3VL", text=("qwen3_vl_text",), since="4.57"),
    F("qwen3_vl_moe", "Qwen3VLMoe", text=("qwen3_vl_moe_text",), since="4.57"),
    F("qwen4_exp", refused=_INDEXER),
    F("smolvlm", "SmolVLM", text=_PLAIN),
    *(F(name, refused=_NO_ROTARY) for name in _WITHOUT_ROTARY),
)
# fmt: on

FAMILIES = {row.model_type: row for row in _ROWS}


def supported() -> list[str]:
    """List the model types that can be converted, in alphabetic order."""
    return sorted(name for name, family in FAMILIES.items() if not family.refused and not family.inside)


def family_of(model_type: object) -> Family:
    """Look a model type up.

    Args:
        model_type: as a configuration names it.

    Raises:
        RopextError: the table does not have it.
    """
    if isinstance(model_type, str) and model_type in FAMILIES:
        return FAMILIES[model_type]
    if not isinstance(model_type, str):
        raise RopextError(f"config.json: model_type: {model_type!r} does not name a model family.")
    raise RopextError(
        f"config.json: model_type: {model_type!r} is not in ropext's table of model families"
        f"{did_you_mean(model_type, supported())}; `ropext families` lists what is."
    )
