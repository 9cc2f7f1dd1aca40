"""Why did accuracy drop: a quantized network beside its float twin, what is wrong with it, and what undoing it gives."""
