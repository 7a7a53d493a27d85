"""What a trained model rests on, by noise, attacks, removals and cases; nobody needs it to train or serve."""
