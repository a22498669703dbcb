//! Checks of a TURN server against the RFCs.
