"""Support images with what an audit or a proposal needs to know of them."""
