Ductaflow.timeline = () => {};
