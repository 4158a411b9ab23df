"""Training: recipes, the loop, distillation and evaluation."""
