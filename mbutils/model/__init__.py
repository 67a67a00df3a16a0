"""MobileNet v1, its weights, its training, and learning from a teacher."""
