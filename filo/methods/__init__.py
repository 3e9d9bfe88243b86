"""One paper, one file. A method sees images, class names and boxes, never arguments, files or a detector."""
