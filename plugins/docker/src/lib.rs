//! The builder docker as a file that imagespec loads.
