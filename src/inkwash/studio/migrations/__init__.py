"""The history of the tables: a file a step, in order. A step that has shipped never changes; a new one is added."""
