"""The zoo, and the contracts that a model fulfils."""
