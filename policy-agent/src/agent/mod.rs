//! The running agent: a control loop around one node, and what it is wired to.

mod answer;
pub(crate) mod backoff;
mod control;
mod explain;
pub(crate) mod find;
mod heap;
mod machine;
pub(crate) mod members;
pub(crate) mod options;
mod problems;
mod run;
mod seams;
mod services;
mod settle;
mod state_dir;
#[cfg(test)]
mod tests;
mod window;

pub use control::{Control, Ending, Inbox, Settings};
pub use options::{Cli, DEFAULT_SOCKET};
pub use seams::{Datapath, Discovery, Failure};
