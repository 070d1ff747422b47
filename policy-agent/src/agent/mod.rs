//! The running agent: a control loop around one node, and what it is wired to.

mod answer;
mod backoff;
mod control;
mod explain;
mod members;
mod options;
mod problems;
mod seams;
mod settle;
#[cfg(test)]
mod tests;

pub use control::{Control, Ending, Inbox, Settings};
pub use options::{Cli, DEFAULT_SOCKET};
pub use seams::{Datapath, Discovery, Failure, Interface};
