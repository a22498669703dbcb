//! The TTL (or hop limit) that a socket's datagrams have without being told each time.
//!
//! A control message is not only a few bytes more: with any of them the kernel walks them all and
//! looks at the route anew. A relay port mostly sends to one peer, for one client, so its TTL is
//! nearly always the same and is the socket's own; what differs is told with the datagram.
//!
//! ```text
//!   wanted     63  63  63  127  63  127 127 127 127
//!   credit      0   1   2    1   2    1   0   -   1      -: the socket is set to 127
//!   told        .   .   .  127   .  127 127   .   .
//! ```
//!
//! An option is the socket's, not the descriptor's: only a link that nobody shares the socket with
//! in sending sets it, and everybody else tells each datagram.

/// Datagrams of another TTL that are told theirs before the socket is set anew, at most.
const CREDIT_MAX: u8 = 16;

/// What one link knows of one socket's TTL.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ttl {
    /// What the socket was set to; nothing where it has the host's default, or is another's to set.
    own: Option<u8>,
    credit: u8,
    /// This link may set it.
    settable: bool,
}

impl Ttl {
    /// Of a socket that this link sets, and that is as it was made.
    pub(super) fn settable() -> Self {
        Self { own: None, credit: 0, settable: true }
    }

    /// The kernel refused to set it.
    pub(super) fn give_up(&mut self) {
        *self = Self::default();
    }

    /// Before a datagram that is to have the TTL `wanted` is sent: what the socket is to be set to,
    /// if it is.
    pub(super) fn adopt(&mut self, wanted: u8) -> Option<u8> {
        if !self.settable {
            return None;
        }
        match self.own {
            Some(own) if own == wanted => {
                self.credit = (self.credit + 1).min(CREDIT_MAX);
                None
            }
            Some(_) if self.credit > 0 => {
                self.credit -= 1;
                None
            }
            _ => {
                (self.own, self.credit) = (Some(wanted), 0);
                Some(wanted)
            }
        }
    }

    /// What a datagram has to be told that is to have the TTL `wanted`, or `default`.
    pub(super) fn told(&self, wanted: Option<u8>, default: u8) -> Option<u8> {
        match wanted {
            _ if self.settable && self.own == wanted => None,
            _ => Some(wanted.unwrap_or(default)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: u8 = 64;

    /// What the socket is set to, and what the datagram is told.
    fn send(ttl: &mut Ttl, wanted: u8) -> (Option<u8>, Option<u8>) {
        (ttl.adopt(wanted), ttl.told(Some(wanted), DEFAULT))
    }

    #[test]
    fn the_first_ttl_is_the_sockets_own_from_then_on() {
        let mut ttl = Ttl::settable();
        assert_eq!(ttl.told(None, DEFAULT), None, "it is as it was made");
        assert_eq!(send(&mut ttl, 63), (Some(63), None));
        assert_eq!(send(&mut ttl, 63), (None, None));
        assert_eq!(ttl.told(None, DEFAULT), Some(DEFAULT), "the default is no longer its own");
    }

    #[test]
    fn another_ttl_is_told_until_it_is_the_usual_one() {
        let mut ttl = Ttl::settable();
        for _ in 0..100 {
            send(&mut ttl, 63);
        }
        for _ in 0..CREDIT_MAX {
            assert_eq!(send(&mut ttl, 127), (None, Some(127)));
        }
        assert_eq!(send(&mut ttl, 127), (Some(127), None));
        assert_eq!(send(&mut ttl, 127), (None, None));
        assert_eq!(send(&mut ttl, 63), (None, Some(63)), "once is not usual");
        assert_eq!(send(&mut ttl, 127), (None, None));
    }

    #[test]
    fn what_is_anothers_to_set_is_always_told() {
        let mut ttl = Ttl::settable();
        ttl.give_up();
        for mut ttl in [ttl, Ttl::default()] {
            assert_eq!(send(&mut ttl, 63), (None, Some(63)));
            assert_eq!(ttl.told(None, DEFAULT), Some(DEFAULT));
        }
    }
}
