"""What the rules `lda` and `lda_star` look at beyond the candidates of the other rules."""
