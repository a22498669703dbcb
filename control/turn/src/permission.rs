//! Permissions: which peers' IP addresses an allocation exchanges datagrams with (RFC 8656
//! section 9). Ports do not count.

use std::net::IpAddr;
use std::time::Duration;

/// How long a permission lasts after its last CreatePermission or ChannelBind (RFC 8656
/// section 9: exactly 300 seconds).
pub const PERMISSION_LIFETIME: Duration = Duration::from_secs(300);

/// An allocation's permissions, ordered by address.
#[derive(Debug, Clone, Default)]
pub(crate) struct Permissions(Vec<(IpAddr, Duration)>);

impl Permissions {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, (IpAddr, Duration)> {
        self.0.iter()
    }

    /// Whether the address is known, live or not.
    pub(crate) fn contains(&self, ip: IpAddr) -> bool {
        self.0.binary_search_by_key(&ip, |p| p.0).is_ok()
    }

    pub(crate) fn is_live(&self, ip: IpAddr, now: Duration) -> bool {
        self.0.binary_search_by_key(&ip, |p| p.0).is_ok_and(|at| now < self.0[at].1)
    }

    /// Installs, or refreshes.
    pub(crate) fn put(&mut self, ip: IpAddr, expires: Duration) {
        match self.0.binary_search_by_key(&ip, |p| p.0) {
            Ok(at) => self.0[at].1 = expires,
            Err(at) => self.0.insert(at, (ip, expires)),
        }
    }

    /// Returns how many went.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(IpAddr, Duration) -> bool) -> usize {
        let before = self.0.len();
        self.0.retain(|&(ip, expires)| keep(ip, expires));
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
        before - self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permission_lives_until_its_expiry_and_not_at_it() {
        let ip: IpAddr = [198, 18, 0, 1].into();
        let mut permissions = Permissions::default();
        permissions.put(ip, Duration::from_secs(300));
        assert!(permissions.is_live(ip, Duration::from_secs(300) - Duration::from_nanos(1)));
        assert!(!permissions.is_live(ip, Duration::from_secs(300)));
        permissions.put(ip, Duration::from_secs(400));
        assert_eq!(permissions.len(), 1);
        assert!(permissions.is_live(ip, Duration::from_secs(399)));
    }
}
