"""Dense definitions of the operations, the dense twin of a network, and its export."""
