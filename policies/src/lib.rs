//! The policy language and its evaluation: verified claims become a decision.
