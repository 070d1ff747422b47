//! Controllers with the rights of `deploy/` and no others, at a real API server: one leads, says what is wrong with
//! policies, and is replaced when it goes.

mod controllers;
mod leading;
mod outage;
