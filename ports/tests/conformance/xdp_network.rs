//! What else happens on an AF_XDP port's network.
