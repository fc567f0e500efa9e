"""Other systems that say whether a label is right, on the same embeddings: small implementations
after their papers, for comparison (docs/comparison.md)."""

from trustvlm.scoring.peers.material import Material
from trustvlm.scoring.peers.systems import PEERS, Peer, run

__all__ = ["PEERS", "Material", "Peer", "run"]
