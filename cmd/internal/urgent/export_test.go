package urgent

// Granted is the weight that a limit grants.
var Granted = granted
