"""The volumes of pods: directories on this node, written atomically, removed with their pod."""
