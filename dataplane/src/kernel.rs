//! The kernel program: load, attach, publish.
mod hops;
mod links;
mod maps;
mod netlink;
mod network;
mod paths;
#[cfg(test)]
mod testing;
