//! stub
pub struct Problem;
pub struct Problems;
