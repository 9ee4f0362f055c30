//! The log on a simulated disk: random work, faults and reboots, compared with what must be there.

mod defects;
mod history;
mod machine;
mod seeds;
