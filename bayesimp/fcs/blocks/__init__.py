"""The blocks of the loop: one class for each way of imputing a variable."""
