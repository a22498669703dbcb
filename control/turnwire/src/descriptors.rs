//! The limit of open files, of which every relay port takes one.

use crate::sys;

/// Descriptors beside those of relay ports: listeners, wake-ups, maps, admin connections, logs.
const BESIDE: u64 = 256;

/// Raises the limit as far as the process may. What is to be said if it stays too low.
pub fn raise(max_allocations: usize) -> Option<String> {
    match sys::raise_descriptor_limit() {
        Ok(limit) => warning(limit, max_allocations),
        Err(error) => Some(format!("the limit of open files could not be raised: {error}")),
    }
}

fn warning(limit: u64, max_allocations: usize) -> Option<String> {
    let can = limit.saturating_sub(BESIDE);
    let wanted = u64::try_from(max_allocations).unwrap_or(u64::MAX);
    (can < wanted).then(|| {
        format!(
            "the hard limit of {limit} open files serves {can} allocations, not the {wanted} of \
             max-allocations: raise it (ulimit -Hn, LimitNOFILE=) to {} or more",
            wanted.saturating_add(BESIDE)
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
        assert!(warning.contains("serves 768 allocations"), "{warning}");
        assert!(warning.contains("to 65792 or more"), "{warning}");
    }
}
