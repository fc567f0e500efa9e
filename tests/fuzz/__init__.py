"""A mutation fuzzer over files that the tests make themselves: see campaign.py, and
docs/hostile-input.md for what it found."""
