"""Writes checkpoints/embedded-clip/nouns.safetensors: text features of the nouns, so that nobody waits for them.

python -m scripts.embedded_clip.nouns        # after a build of the model, or of the list of nouns
"""

from lsn_core import load_backbone
from lsn_core.prompts.nouns import SHIPPED, encode_nouns

if __name__ == "__main__":
    encode_nouns(load_backbone("embedded", "cpu"), SHIPPED)
