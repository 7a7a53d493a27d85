"""The paper's own part: concept scores, concept memory, counterfactual sequences."""
