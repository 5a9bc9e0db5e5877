"""How the shipped checkpoints are made: data, one loop, one recipe file per checkpoint or lesson."""
