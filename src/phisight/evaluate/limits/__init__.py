"""What a model does where it should not answer: foreign images, refused real ones, errors by confidence."""
