"""Merkle trees against RFC 6962's definition, its published vectors, and every small tree there is."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from pytest_tenantproof.attest import merkle

# Leaves and roots of the reference tests of Certificate Transparency.
DATA = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def leaves(count: int) -> list[bytes]:
    return [merkle.leaf_hash(b"leaf %d" % i) for i in range(count)]


def test_roots_are_those_of_the_reference_vectors() -> None:
    assert merkle.root_hash([]) == hashlib.sha256().digest()
    hashed = [merkle.leaf_hash(data) for data in DATA]
    for size, root in enumerate(ROOTS, 1):
        assert merkle.root_hash(hashed[:size]).hex() == root


def test_every_proof_of_every_small_tree_holds_and_no_other() -> None:
    for size in range(1, 18):
        tree = leaves(size)
        root = merkle.root_hash(tree)
        for index in range(size):
            proof = merkle.inclusion_proof(tree, index)
            assert merkle.verify_inclusion(tree[index], index, size, proof, root)
            assert not merkle.verify_inclusion(merkle.leaf_hash(b"other"), index, size, proof, root)
            assert not any(
                merkle.verify_inclusion(tree[index], i, size, proof, root) for i in range(size) if i != index
            )
        for old in range(1, size + 1):
            proof = merkle.consistency_proof(tree, old)
            before = merkle.root_hash(tree[:old])
            assert merkle.verify_consistency(old, before, size, root, proof)
            forged = merkle.root_hash([merkle.leaf_hash(b"forged"), *tree[1:old]])
            assert not merkle.verify_consistency(old, forged, size, root, proof)
            assert not merkle.verify_consistency(old, before, size, forged, proof)


@given(st.integers(1, 200), st.data())
def test_a_changed_proof_never_holds(size: int, data: st.DataObject) -> None:
    tree, index = leaves(size), data.draw(st.integers(0, size - 1))
    proof = list(merkle.inclusion_proof(tree, index))
    root = merkle.root_hash(tree)
    assert not merkle.verify_inclusion(tree[index], index, size, [*proof, root], root)
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        proof[at] = bytes([proof[at][0] ^ 1]) + proof[at][1:]
        assert not merkle.verify_inclusion(tree[index], index, size, proof, root)
        assert not merkle.verify_inclusion(tree[index], index, size, proof[:-1], root)
