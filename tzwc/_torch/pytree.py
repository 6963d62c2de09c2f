"""Nested Python containers as flat lists of leaves. PyTorch's own, so that containers registered with it are known."""

from __future__ import annotations

from torch.utils import _pytree

MappingKey = _pytree.MappingKey
"""A step of the path to a leaf: an entry of a dictionary."""

TreeSpec = _pytree.TreeSpec
"""How leaves are put together."""

register_pytree_node = _pytree.register_pytree_node
"""Make a class a container."""

tree_flatten = _pytree.tree_flatten
"""The leaves and their :class:`TreeSpec`."""

tree_flatten_with_path = _pytree.tree_flatten_with_path
"""The leaves, each with its path, and their :class:`TreeSpec`."""

tree_leaves = _pytree.tree_leaves
"""The leaves."""

tree_map = _pytree.tree_map
"""The same container with a function applied to each leaf."""

tree_map_only = _pytree.tree_map_only
"""The same container with a function applied to each leaf of some types."""

tree_structure = _pytree.tree_structure
"""The :class:`TreeSpec` alone."""

tree_unflatten = _pytree.tree_unflatten
"""The container that leaves and a :class:`TreeSpec` make."""
