Ductaflow.compare = () => {};
