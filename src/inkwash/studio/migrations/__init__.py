"""The tables' history: one file a step, in its order. A step that has shipped is never changed; a new one is added."""
