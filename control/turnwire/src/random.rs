//! The operating system's randomness, for nonce keys, relay ports, tokens and made-up users.

/// getrandom(2).
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl turn::Random for System {
    fn fill(&mut self, bytes: &mut [u8]) {
        // Since Linux 3.17 this only fails before the machine has any entropy, or where a sandbox
        // forbids it. Guessable keys would be worse than ending here.
        getrandom::fill(bytes).expect("the operating system gives random bytes");
    }
}

/// A text of `len` characters that nobody can guess: 5 bits each, without look-alikes.
pub fn text(random: &mut dyn turn::Random, len: usize) -> String {
    const ALPHABET: &[u8; 32] = b"23456789abcdefghijkmnpqrstuvwxyz";
    let mut bytes = vec![0; len];
    random.fill(&mut bytes);
    bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_their_length_and_differ() {
        let (one, two) = (text(&mut System, 24), text(&mut System, 24));
        assert_eq!(one.len(), 24);
        assert_ne!(one, two);
    }
}
