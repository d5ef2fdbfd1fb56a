//! Telephone conversations, told to the codec in the server's own words.
