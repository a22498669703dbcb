//! The rings against the kernel, over real interfaces, and against a kernel that is made up.

mod faults;
pub(crate) mod lab;
mod simulation;
mod traffic;
