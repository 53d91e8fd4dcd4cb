//! What applications link: regions, sessions, operations.
