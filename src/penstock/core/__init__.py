"""Values shared by every room: frozen, slotted, standard library only."""
