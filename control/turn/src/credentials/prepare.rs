//! OpaqueString (RFC 8265 section 4.2): how usernames, realms and passwords become bytes.
//!
//! Spaces outside ASCII become the ASCII space, the text becomes Unicode normalisation form C,
//! and control characters, unassigned code points and the empty string are refused. Case stays.

use precis_profiles::OpaqueString;
use precis_profiles::precis_core::Error;
use precis_profiles::precis_core::profile::Profile;

/// Why a text cannot be a username, realm or password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    /// Empty, or empty once prepared.
    #[error("is empty")]
    Empty,
    /// A code point that RFC 8265 does not admit.
    #[error("has the character U+{0:04X}, which RFC 8265 does not admit")]
    Character(u32),
    /// Anything else that RFC 8265 refuses.
    #[error("is refused by RFC 8265")]
    Refused,
}

/// The OpaqueString form of a username, realm or password.
///
/// # Errors
/// [`PrepareError`].
pub fn prepare(text: &str) -> Result<String, PrepareError> {
    if text.is_empty() {
        return Err(PrepareError::Empty);
    }
    match OpaqueString::new().enforce(text) {
        Ok(prepared) => Ok(prepared.into_owned()),
        Err(Error::BadCodepoint(info)) => Err(PrepareError::Character(info.cp)),
        Err(_) => Err(PrepareError::Refused),
    }
}
