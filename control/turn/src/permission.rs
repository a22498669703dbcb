//! Permissions: which peers' IP addresses an allocation exchanges datagrams with (RFC 8656
//! section 9). Ports do not count.

use std::net::IpAddr;
use std::time::Duration;

/// How long a permission lasts after its last CreatePermission or ChannelBind (RFC 8656
/// section 9: exactly 300 seconds).
pub const PERMISSION_LIFETIME: Duration = Duration::from_secs(300);

/// One permission of an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Permission {
    pub(crate) ip: IpAddr,
    /// Whether the fast tiers were told.
    pub(crate) published: bool,
    pub(crate) expires: Duration,
}

/// An allocation's permissions, ordered by address.
#[derive(Debug, Clone, Default)]
pub(crate) struct Permissions(Vec<Permission>);

impl Permissions {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Permission> {
        self.0.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> std::slice::IterMut<'_, Permission> {
        self.0.iter_mut()
    }

    fn find(&self, ip: IpAddr) -> Result<usize, usize> {
        self.0.binary_search_by_key(&ip, |permission| permission.ip)
    }

    /// Whether the address is known, live or not.
    pub(crate) fn contains(&self, ip: IpAddr) -> bool {
        self.find(ip).is_ok()
    }

    pub(crate) fn is_live(&self, ip: IpAddr, now: Duration) -> bool {
        self.find(ip).is_ok_and(|at| now < self.0[at].expires)
    }

    /// Installs, or refreshes.
    pub(crate) fn put(&mut self, ip: IpAddr, expires: Duration) {
        match self.find(ip) {
            Ok(at) => self.0[at].expires = expires,
            Err(at) => self.0.insert(at, Permission { ip, published: false, expires }),
        }
    }

    /// Takes those out that are not to be kept.
    pub(crate) fn take_unless(&mut self, keep: impl Fn(&Permission) -> bool) -> Vec<Permission> {
        let mut taken = Vec::new();
        self.0.retain(|permission| {
            let kept = keep(permission);
            if !kept {
                taken.push(*permission);
            }
            kept
        });
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
        taken
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
