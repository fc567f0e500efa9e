"""The evidence of the rules `lda` and `lda_star`: a discriminant with shared covariance, all of it
found from the support images (docs/rules.md, "Discriminant")."""
