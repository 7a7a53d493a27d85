"""Recommendations for many: one output file, a directory of shards by several processes, or Beam."""
