"""What a process takes from, and gives to, the snapshots that machines share."""
