//! The limit of open files, of which every relay port takes one.

use crate::sys;

/// Descriptors kept from relay ports: listeners, wake-ups, maps, admin connections, logs.
const BESIDE: u64 = 256;

/// Raises the limit as far as the process may. Gives the relay ports that it leaves room for, and
/// what is to be said if those are fewer than the allocations that there can be.
pub fn raise(allocations: usize) -> (usize, Option<String>) {
    match sys::raise_descriptor_limit() {
        Ok(limit) => {
            let ports = usize::try_from(ports(limit)).unwrap_or(usize::MAX);
            (ports, warning(limit, allocations))
        }
        Err(error) => {
            (usize::MAX, Some(format!("the limit of open files could not be raised: {error}")))
        }
    }
}

/// Of so many descriptors, those for relay ports.
fn ports(limit: u64) -> u64 {
    limit.saturating_sub(BESIDE).saturating_sub(lanes(limit))
}

/// Of so many descriptors, those that lanes take at most.
fn lanes(limit: u64) -> u64 {
    dataplane::lanes_max(usize::try_from(limit).unwrap_or(usize::MAX)) as u64
}

fn warning(limit: u64, allocations: usize) -> Option<String> {
    let can = ports(limit);
    let wanted = u64::try_from(allocations).unwrap_or(u64::MAX);
    (can < wanted).then(|| {
        format!(
            "the hard limit of {limit} open files serves {can} allocations, not the {wanted} \
             that max-allocations and relay-ports allow: raise it (ulimit -Hn, LimitNOFILE=) to {} or more",
            wanted.saturating_add(BESIDE).saturating_add(lanes(u64::MAX))
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_descriptors_are_told_with_the_number_that_works() {
        assert_eq!(warning(1_048_576, 65_536), None);
        let warning = warning(1024, 65_536).expect("a warning");
        assert!(warning.contains("serves 640 allocations"), "{warning}");
        assert!(warning.contains("to 66816 or more"), "{warning}");
    }
}
