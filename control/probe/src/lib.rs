//! What a person debugging a call wants to know of a server and of the NATs on the way.
