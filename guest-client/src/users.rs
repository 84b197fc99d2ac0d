//! Users that a configuration names, by number, to be compared with whom the kernel says that has connected.

/// What the kernel calls every user of a user namespace that it has no number for: naming it would let all of them in.
const OVERFLOW_USER: u32 = 65534;

/// Checks the users that may connect.
///
/// # Errors
/// What is wrong.
pub fn check(users: &[u32]) -> Result<(), String> {
    if users.contains(&OVERFLOW_USER) {
        return Err(format!("{OVERFLOW_USER} is what every user of another namespace looks like"));
    }
    Ok(())
}
